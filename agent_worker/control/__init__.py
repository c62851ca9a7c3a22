"""The control plane: the one seam between a live call and everything else."""

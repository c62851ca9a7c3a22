"""`python -m agent_worker`; every job process imports this module again, so it imports nothing itself."""

if __name__ == "__main__":
    from agent_worker.cli import main

    main()

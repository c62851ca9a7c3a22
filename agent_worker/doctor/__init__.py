"""`doctor`: why calls are not answered, found out by asking each part in turn."""

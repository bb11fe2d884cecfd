"""The paper's table from one command: what is trained, what is merged, what it will cost, and the run itself."""

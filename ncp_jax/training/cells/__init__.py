"""Training thousands of cell architectures in one program: tasks, chunks, the training itself."""

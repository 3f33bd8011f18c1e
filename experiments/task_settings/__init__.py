"""Settings of one task: do architectures carry over, and which positions do their gradients move?"""

"""What experiments/controllable.py measures: methods, questions, controllability, gaps to static models."""

"""Search under hard limits on exact costs, compared with the best architecture within them."""

"""The networks: encoder, predictor, proposer, and the world model made of them."""

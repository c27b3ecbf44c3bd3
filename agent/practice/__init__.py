"""What an agent does between two rounds of training: it chooses goals of its own and plans to them."""

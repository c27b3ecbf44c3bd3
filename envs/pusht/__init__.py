"""PushT: its world, how it is drawn, its behaviour policy, and its factors of variation."""

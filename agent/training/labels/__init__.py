"""Recordings where only some episodes have actions: an inverse model gives the others theirs."""

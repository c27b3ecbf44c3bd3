"""The planner inside a robot program: threads, the policy server and its client, export."""

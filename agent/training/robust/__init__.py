"""An encoder that sees the same under other colours, grounds and lights: how it is learned."""

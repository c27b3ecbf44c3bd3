"""A ROS 2 node around latent-planner: `logic` is what it does, `node` how ROS is told."""

"""Drive, a road with traffic, cones and weather, and Timid, where PPO learns to brake."""

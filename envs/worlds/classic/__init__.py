"""Classic control: CartPole, MountainCar, Acrobot, Pendulum, and Packer's suites of them."""

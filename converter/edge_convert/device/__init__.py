"""How a model fits a class of device: operators, memory, accelerators' compilers, emulated ARM, profiles."""

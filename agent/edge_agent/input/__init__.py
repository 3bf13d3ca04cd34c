"""From what an application has to what a model takes, and from outputs to answers, by the tensor contract."""

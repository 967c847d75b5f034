"""One thread: small networks run no faster on more, and test runs share the machine."""

import torch

torch.set_num_threads(1)

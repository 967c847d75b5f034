"""One thread: small networks run no faster on more, and test runs share the machine."""

import numba
import torch

numba.set_num_threads(1)  # first: as it starts its threads it gives torch as many as there are
torch.set_num_threads(1)

"""The RTMDet family (Lyu et al. 2022, arXiv 2212.07784): its own network, loss and checkpoints, in plain torch."""

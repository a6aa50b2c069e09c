"""Other methods than the diffusion planner, trained on the same raw data and scored by the same episodes.

A method is a module of this package with a function `train` and a class `Policy`, see `dmemm.methods.base`.
"""

# Name, in params.yaml's `methods` and in paths, and as tables print it.
METHODS = {"hd": "HD-DA", "mppi": "MPPI", "rvs": "RvS"}

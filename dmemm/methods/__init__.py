"""Other methods than the diffusion planner, trained on the same raw data and scored by the same episodes.

A method is a module of this package with a function `train` and a class `Policy`, see `dmemm.methods.base`.
"""

# Name, in params.yaml's `methods` and in paths, and as tables print it.
METHODS = {
    "bc": "BC", "bcq": "BCQ", "bear": "BEAR", "cql": "CQL", "dt": "DT", "hd": "HD-DA", "iql": "IQL", "morel": "MOReL",
    "mppi": "MPPI", "rvs": "RvS",
}  # fmt: skip
# Those whose training needs the environment that `make methods` makes.
BY_D3RLPY = ("bc", "bcq", "bear", "cql", "dt", "iql", "morel")
# Those that plan states too, whose plans `consistency` measures.
PLANNING = ("hd", "mppi")

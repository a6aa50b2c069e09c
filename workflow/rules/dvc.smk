# Snakemake's memory (.snakemake) and DVC's (dvc.lock) kept equal: workflow/dvc_bridge.py says how.
from workflow import dvc_bridge

if workflow.is_main_process:
    own = {name: Path(task.data["own"]).expanduser() for name, task in TASKS.items() if "own" in task.data}
    dvc_bridge.adopt(workflow, {RAW.replace("{task}", name): str(path) for name, path in own.items()})


onstart:
    dvc_bridge.clear(workflow)


onsuccess:
    dvc_bridge.commit(workflow)


onerror:
    dvc_bridge.commit(workflow)

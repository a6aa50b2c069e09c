# After each run DVC records what there is (workflow/record.py).
onstart:
    record.begin()


onsuccess:
    record.finish(complete=not workflow.dag_settings.targets or "all" in workflow.dag_settings.targets)


onerror:
    record.finish(complete=False)

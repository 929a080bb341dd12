"""Dashboards as code: a W&B workspace and reports, drawn from the names that runs log.

`server` asks W&B the few questions that decide whether it can be used; `panels` says what is shown, as plain data; `views`
turns that into the library's objects and saves them. Nothing here may be imported by a training but `server`, and
`wandb_workspaces` (3 s) is imported by `views` alone.
"""

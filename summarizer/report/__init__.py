"""Reports: one self-contained HTML page for a run, a sweep, or any set of runs.

Reads the folders that jobs wrote and nothing else; needs no model, no device and no network, and imports no torch. Every
text of a run is untrusted: templates escape all of it, and charts escape their labels.

- `records`: a run's folder as a typed value, and which folders of a pattern are runs
- `differences`: which settings differ between runs
- `significance`: paired comparisons of runs on the same rows, and parameter importance
- `charts`: SVG drawings; `axes`: their scales and ticks
- `marking`: which words of a summary are copied and which are new
- `run_page`, `comparison_page`: what a page shows; `page`: the template and its assets
"""

"""Reports as one self-contained HTML page; needs the extra ``html`` (jinja2, matplotlib)."""

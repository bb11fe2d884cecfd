"""MAET Studio. `make app`, `maet app`, or `streamlit run app.py`."""

from maet_core.studio import shell

shell.run()

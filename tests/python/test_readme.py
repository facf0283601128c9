"""The README's Python, as it stands there."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:19530"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("block", "answer"), list(zip(BLOCKS, ["hello", "a red apple"], strict=True)))
def test_what_the_readme_shows_works(shared_server, capsys, block, answer):
    assert ADDRESS in block
    exec(block.replace(ADDRESS, shared_server.uri), {})
    said = capsys.readouterr().out
    assert answer in said, said

from tests.ui.conftest import *
from tests.ui.conftest import said
def test_a(busy, show):
    for p in PAGES:
        t = show(p, **({"order":"ORD-1002"} if p=="order.py" else {}))
        print("=====",p); print(said(t))

"""The accuracy of every latency model on every data set at hand; `make accuracy` prints it and writes docs/accuracy.md.

Data flow down this list: ``datasets`` finds what there is, ``evaluation`` fits and predicts it, ``transfer`` and
``noise`` add what carries over and what repeats, ``tables`` words it, ``plots`` draws it, ``page`` writes it.
"""

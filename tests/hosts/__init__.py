"""Several hosts for a test: networks that split, Valkey in every form, links, clocks, gateways.

    network.py   hosts as network namespaces behind one switch; split, heal
    valkeys.py   redis-server of the distribution: one, with Sentinel, as a cluster
    clocks.py    a clock of its own for a process
    host.py      one host of ER: er-gateway and stand-in engines in a namespace
    traffic.py   clients who ask hosts all the time

tests/faulty_link.py is the link that is slow, stalls, cuts, resets. Only namespaces need root.
"""

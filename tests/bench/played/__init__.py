"""Many hosts in virtual time: the parts of hosts_sim.py."""

"""What load this machine carries: a measured sweep, the knee in it, what to change first. Pure.

`sweep` finds for each shape of request (texts, tokens) the highest rate of arrivals whose p99 stays
under a goal; who sends the requests is passed in. `advice` says what stood in the way, from what
was measured. `words` has that in English and Chinese, `result` what is kept of it in STATE.
"""

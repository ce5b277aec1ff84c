"""A page for the owner of the machine: traffic, latency, quality, capacity, keys, incidents. Pure.

`facts` is what was read, `summary` what follows from it; `html` and `markdown` write it, in the
words of `words`. Each figure is a count of something: totals, keys and models are those of
`er usage`; times, causes of refusals and incidents those of the hours that the gateway counted
(`history/hourly`). What nobody knows is said, never drawn as 0.
"""

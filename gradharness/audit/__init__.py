"""A coverage policy for gradients: which hand-written backwards there are, and which gradient test reaches which.

What there is is read from the source, so that nothing has to be imported to be listed. Nothing in here needs torch.
"""

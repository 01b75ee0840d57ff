"""Tutorials to read from top to bottom and to run: `python -m ils_lightning.tutorials.own_loss`.

own_loss: a loss of your own, three estimators, and the exact gradient beside them.
own_encoder: networks of your own in a LightningModule, and the line that switches the estimator.
read_report: what each column of a gradient report says, on that model.
"""

"""The price of an image, equation (6): Kullback-Leibler divergence in nats."""

import torch
from torch import Tensor


def kl_nats(teacher_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(q ‖ p) of each row, in nats; round-off below 0 counts as 0.

    Args:
        teacher_log_probs: log q, ``[..., C]``; a class with log q = -inf contributes nothing.
        student_log_probs: log p, ``[..., C]``.
    """
    teacher_probs = teacher_log_probs.exp()
    terms = teacher_probs * (teacher_log_probs - student_log_probs)
    return torch.where(teacher_probs > 0, terms, 0.0).sum(-1).clamp_min(0.0)

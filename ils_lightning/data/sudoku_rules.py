"""The rules of Sudoku on boards of candidates, batch by batch: propagation, a search that counts solutions, puzzles.

A board of candidates is a bool tensor `[81, 9]`: which digits each cell, counted row by row, may still hold. Digits are
1 .. 9, and 0 is an empty cell.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

CELLS, DIGITS = 81, 9


def _units() -> Tensor:
    """Which cells belong to each row, column and box, `[27, 81]`."""
    cells = torch.arange(CELLS).view(9, 9)
    boxes = cells.view(3, 3, 3, 3).transpose(1, 2).reshape(9, 9)
    return torch.zeros(27, CELLS).scatter_(1, torch.cat([cells, cells.T, boxes]), 1.0)


UNITS = _units()
"""1 where a cell belongs to a row, column or box, `[27, 81]`."""
_PEERS = (UNITS.T @ UNITS > 0).float().fill_diagonal_(0)
_AT_A_TIME = 512  # boards that are searched together: what waits stays small


class Grade(NamedTuple):
    """What is asked of a puzzle: how many clues it has, and what is enough to solve it.

    Attributes:
        clues: cells that are given.
        enough: "cells" where filling cells with one candidate left is, "singles" where that and placing digits with one
            cell left in a row, column or box is, "search" where neither is and only trying is.
    """

    clues: int
    enough: str


GRADES = {"easy": Grade(42, "cells"), "medium": Grade(34, "singles"), "hard": Grade(28, "search")}


def candidates(board: Tensor) -> Tensor:
    """Returns what the cells of boards `[boards, 81]` may hold before anything follows: `[boards, 81, 9]`."""
    given = functional.one_hot((board - 1).clamp(min=0), DIGITS).bool()
    return given | (board == 0).unsqueeze(-1)


def propagated(board: Tensor, places: bool = True) -> Tensor:
    """Strikes out candidates `[boards, 81, 9]` until nothing follows any more.

    Args:
        board: candidates.
        places: also let a digit that has one cell left in a row, column or box have it; else only cells that have one
            candidate left count.

    Example:
        >>> board = torch.zeros(1, 81, dtype=torch.long)
        >>> board[0, :8] = torch.arange(1, 9)  # the last cell of the first row must be 9
        >>> propagated(candidates(board))[0, 8].nonzero().item() + 1
        9
    """
    board, moving = board.clone(), torch.arange(len(board))
    while len(moving):
        before = board[moving]
        fixed = before & (before.sum(dim=-1, keepdim=True) == 1)
        left = before & ~(_PEERS @ fixed.float() > 0)
        if places:
            only = left & (UNITS.T @ (UNITS @ left.float() == 1).float() > 0)
            left = torch.where(only.any(dim=-1, keepdim=True), only, left)
        board[moving] = left
        moving = moving[(left != before).flatten(1).any(dim=-1)]
    return board


def solved(board: Tensor) -> Tensor:
    """Whether candidates `[boards, 81, 9]` are one digit a cell that keeps all rules, `[boards]`."""
    return (board.sum(dim=-1) == 1).all(dim=-1) & (UNITS @ board.float() == 1).flatten(-2).all(dim=-1)


def solutions(board: Tensor, most: int = 2) -> Tensor:
    """Counts the solutions of candidates `[boards, 81, 9]`, up to `most`: 1 proves that there is one and no other.

    Boards are searched together, the deepest first: what follows is filled in, and where that is not enough every
    candidate of a cell that has the fewest becomes a board of its own.

    Example:
        >>> board = torch.zeros(1, 81, dtype=torch.long)
        >>> solutions(candidates(board)).tolist()
        [2]
    """
    found, whose = torch.zeros(len(board), dtype=torch.long), torch.arange(len(board))
    while len(board):
        board, waiting = propagated(board[-_AT_A_TIME:]), board[:-_AT_A_TIME]
        whose, of_waiting = whose[-_AT_A_TIME:], whose[:-_AT_A_TIME]
        done = solved(board)
        found.index_add_(0, whose[done], torch.ones_like(whose[done]))
        cell_left = board.any(dim=-1).all(dim=-1)
        place_left = (UNITS @ board.float() > 0).flatten(-2).all(dim=-1)
        open_ = ~done & cell_left & place_left & (found[whose] < most)
        board, whose = branches(board[open_], whose[open_])
        wanted = found[of_waiting] < most
        board, whose = torch.cat([waiting[wanted], board]), torch.cat([of_waiting[wanted], whose])
    return found.clamp(max=most)


def branches(board: Tensor, whose: Tensor) -> tuple[Tensor, Tensor]:
    """One board for each candidate of an undecided cell of each board, and the number `whose` that it came from."""
    size = board.sum(dim=-1)
    cell = torch.where(size > 1, size, DIGITS + 1).argmin(dim=-1)
    parent, digit = board[torch.arange(len(board)), cell].nonzero(as_tuple=True)
    child = board[parent]
    child[torch.arange(len(child)), cell[parent]] = functional.one_hot(digit, DIGITS).bool()
    return child, whose[parent]


def full_boards(number: int, generator: Generator) -> Tensor:
    """Draws full boards `[number, 81]`: random digits in cells with few candidates, anew where that leads nowhere."""
    board, found = torch.ones(number, CELLS, DIGITS, dtype=torch.bool), []
    every = torch.arange(number)
    while sum(map(len, found)) < number:
        board = propagated(board)
        done, size = solved(board), board.sum(dim=-1)
        found.append(board[done].long().argmax(dim=-1) + 1)
        settled = done | (size <= 1).all(dim=-1) | (size == 0).any(dim=-1)
        board = board | settled[:, None, None]
        size = board.sum(dim=-1)
        few = torch.where(size > 1, size, DIGITS + 1) + torch.rand(size.shape, generator=generator) / 2
        cell = few.argmin(dim=-1)
        digit = torch.multinomial(board[every, cell].float(), 1, generator=generator).squeeze(-1)
        board[every, cell] = functional.one_hot(digit, DIGITS).bool()
    return torch.cat(found)[:number]


def puzzles(grade: Grade, number: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draws puzzles of a grade, each with exactly one solution.

    Full boards lose their clues in a random order, where the rest still leads to that board alone.

    Returns:
        Boards with empty cells and their solutions, both int64 `[number, 81]`.
    """
    found: list[tuple[Tensor, Tensor]] = []
    tried = number if grade.enough == "cells" else 3 * number  # about a third of the others is not too easy
    while sum(len(board) for board, _ in found) < number:
        solution = full_boards(tried, generator)
        board = _thinned(solution, grade, generator)
        fits = (board > 0).sum(dim=-1) == grade.clues
        if grade.enough != "cells":
            fits &= ~solved(propagated(candidates(board), places=grade.enough == "search"))
        found.append((board[fits], solution[fits]))
    boards, whole = (torch.cat(parts)[:number] for parts in zip(*found, strict=True))
    return boards, whole


def _thinned(solution: Tensor, grade: Grade, generator: Generator) -> Tensor:
    order = torch.rand(solution.shape, generator=generator).argsort(dim=-1)
    board, every, still = solution.clone(), torch.arange(len(solution)), _RULES[grade.enough]
    for cell in order.unbind(dim=-1):
        fewer = board.clone()
        fewer[every, cell] = 0
        take = ((board > 0).sum(dim=-1) > grade.clues) & still(candidates(fewer), cell, solution[every, cell])
        board = torch.where(take.unsqueeze(-1), fewer, board)
    return board


def _by_search(board: Tensor, cell: Tensor, digit: Tensor) -> Tensor:
    """Whether boards whose full form holds `digit` in `cell` can be solved in no other way."""
    leads = solved(propagated(board))
    rest, every = board[~leads].clone(), torch.arange(int((~leads).sum()))
    rest[every, cell[~leads], digit[~leads] - 1] = False
    leads[~leads] = solutions(rest, most=1) == 0
    return leads


_RULES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cells": lambda board, cell, digit: solved(propagated(board, places=False)),
    "singles": lambda board, cell, digit: solved(propagated(board)),
    "search": _by_search,
}

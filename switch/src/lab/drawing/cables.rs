//! Cables laid on the grid: each the cheapest way around the boxes, few bends, across other cables but never along them.
//!
//! Dijkstra's algorithm over cells and directions, as maze routers of circuit boards do it (Lee, 1961).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::Drawing;

/// A cell of the grid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Cell {
    pub(super) x: usize,
    pub(super) y: usize,
}

/// A direction, by its number in [`MOVES`]; the odd ones are vertical.
type Direction = usize;

/// A cell and the direction in which it was entered.
type Entered = (Cell, Direction);

/// The least cost of entering a cell, and from where.
type Best = BTreeMap<Entered, (u32, Option<Entered>)>;

const MOVES: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
/// A bend costs as much as a detour of so many cells.
const BEND: u32 = 6;
const CROSSING: u32 = 8;

/// The ways of all cables, cell by cell; one that finds no way is left out.
pub(super) fn lay(drawing: &Drawing, ends: &[[Cell; 2]]) -> Vec<Vec<Cell>> {
    let mut grid = Grid::new(drawing);
    for end in ends.iter().flatten() {
        // Nobody else's cable may be in the way of where one begins.
        grid.reserved.insert(*end);
    }
    let mut cables: Vec<Vec<Cell>> = Vec::new();
    for &[from, to] in ends {
        // Where several cables end at one place, as the children of one interface, the later ones join the first.
        let joined = |end: Cell| -> BTreeSet<Cell> {
            let there = cables.iter().filter(|way| way.first() == Some(&end) || way.last() == Some(&end));
            there.flatten().copied().collect()
        };
        let (from, to, joined) = match (joined(from), joined(to)) {
            (first, second) if second.is_empty() && !first.is_empty() => (to, from, first),
            (_, second) => (from, to, second),
        };
        if let Some(way) = grid.way(from, to, &joined) {
            grid.occupy(&way);
            cables.push(way);
        }
    }
    cables
}

struct Grid {
    width: usize,
    height: usize,
    boxes: Vec<bool>,
    reserved: BTreeSet<Cell>,
    /// How cables run through a cell: horizontally, vertically; both at a bend.
    taken: BTreeMap<Cell, [bool; 2]>,
}

impl Grid {
    fn new(drawing: &Drawing) -> Self {
        let (width, height) = (drawing.width, drawing.height);
        let mut boxes = vec![false; width * height];
        for host in &drawing.boxes {
            for y in host.y..host.y + host.height() {
                boxes[y * width + host.x..y * width + host.x + host.width].fill(true);
            }
        }
        Self { width, height, boxes, reserved: BTreeSet::new(), taken: BTreeMap::new() }
    }

    fn way(&self, from: Cell, to: Cell, joined: &BTreeSet<Cell>) -> Option<Vec<Cell>> {
        let mut best = Best::new();
        let mut queue = BinaryHeap::new();
        // A cable leaves a box straight, to either side.
        for direction in [0, 2] {
            best.insert((from, direction), (0, None));
            queue.push(Reverse((0, from, direction)));
        }
        while let Some(Reverse((cost, cell, direction))) = queue.pop() {
            // It arrives straight as well, unless it joins another one.
            if joined.contains(&cell) || (cell == to && direction % 2 == 0) {
                return Some(trace(&best, (cell, direction)));
            }
            if best.get(&(cell, direction)).is_some_and(|(known, _)| *known < cost) {
                continue;
            }
            for next_direction in 0..MOVES.len() {
                if next_direction == (direction + 2) % 4 {
                    continue;
                }
                let bends = next_direction != direction;
                let crosses_here = self.taken.contains_key(&cell);
                let Some(next) = self.step(cell, next_direction) else { continue };
                // No bend on top of another cable.
                let free = joined.contains(&next) || self.is_free(next, next_direction, to);
                if bends && crosses_here || !free {
                    continue;
                }
                let crossing = if self.taken.contains_key(&next) { CROSSING } else { 0 };
                let cost = cost + 1 + crossing + if bends { BEND } else { 0 };
                let entry = best.entry((next, next_direction)).or_insert((u32::MAX, None));
                if cost < entry.0 {
                    *entry = (cost, Some((cell, direction)));
                    queue.push(Reverse((cost, next, next_direction)));
                }
            }
        }
        None
    }

    fn step(&self, cell: Cell, direction: Direction) -> Option<Cell> {
        let (dx, dy) = MOVES[direction];
        let (x, y) = (cell.x.checked_add_signed(dx)?, cell.y.checked_add_signed(dy)?);
        (x < self.width && y < self.height).then_some(Cell { x, y })
    }

    fn is_free(&self, cell: Cell, direction: Direction, to: Cell) -> bool {
        let along = self.taken.get(&cell).is_some_and(|taken| taken[direction % 2]);
        !self.boxes[cell.y * self.width + cell.x] && !along && (cell == to || !self.reserved.contains(&cell))
    }

    fn occupy(&mut self, way: &[Cell]) {
        for (index, cell) in way.iter().enumerate() {
            let taken = self.taken.entry(*cell).or_default();
            let neighbours = [index.checked_sub(1).and_then(|before| way.get(before)), way.get(index + 1)];
            for neighbour in neighbours.into_iter().flatten() {
                taken[usize::from(neighbour.x == cell.x)] = true;
            }
        }
    }
}

fn trace(best: &Best, end: Entered) -> Vec<Cell> {
    let mut way = vec![end.0];
    let mut at = end;
    while let Some((_, Some(before))) = best.get(&at) {
        way.push(before.0);
        at = *before;
    }
    way.reverse();
    way
}

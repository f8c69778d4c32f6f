//! States and transitions as numbers.
//!
//! Models may have states on the heap and slow steps. Each distinct state is kept once and numbered; each
//! distinct pair of input and output is a *class*; each transition is computed once. The search then works on
//! integers.

use std::hash::{Hash, Hasher};

use super::window::Alike;
use crate::hash::{FastHasher, FastMap};
use crate::model::Model;

/// The number of a state.
pub(super) type StateId = u32;
/// The number of a class of equal operations.
pub(super) type Class = u32;

/// No state: the model does not permit the operation.
pub(super) const FORBIDDEN: StateId = u32::MAX;
/// Not computed yet.
const UNTRIED: StateId = u32::MAX - 1;
/// Rows are kept while the table has at most so many cells; with many classes it would be mostly holes.
const CELLS_MAX: usize = 1 << 16;

/// All states met, all classes, and the transitions between them.
pub(super) struct States<'m, M: Model> {
    model: &'m M,
    states: Vec<M::State>,
    /// Half of the hash of a state, and its number: states may be long, so they are kept once and compared only
    /// with their like. Open addressing; at most half of the slots are taken.
    slots: Vec<(u32, StateId)>,
    classes: &'m [Alike<'m, M>],
    /// Row by state, column by class.
    table: Vec<StateId>,
    /// What does not fit the table.
    sparse: FastMap<(StateId, Class), StateId>,
    /// Whether states that nobody can see any more are one, and the first of them that was met.
    unseen_are_alike: bool,
    unseen: Option<StateId>,
    /// If so: the answered reads, and which of them saw a state last.
    observers: Vec<Class>,
    saw: usize,
}

impl<'m, M: Model> States<'m, M> {
    pub fn new(model: &'m M, initial: M::State, classes: &'m [Alike<'m, M>]) -> Self {
        let mut states = States {
            model,
            states: Vec::with_capacity(8),
            slots: vec![FREE; 32],
            classes,
            table: Vec::with_capacity((classes.len() * 8).min(CELLS_MAX)),
            sparse: FastMap::default(),
            unseen_are_alike: false,
            unseen: None,
            observers: Vec::new(),
            saw: 0,
        };
        states.intern(initial);
        states
    }

    /// As [`States::new`], but takes all states that no read of the history can see, now or later, for one
    /// ([`Model::unseen_states_are_alike`]).
    pub fn observed(model: &'m M, initial: M::State, classes: &'m [Alike<'m, M>]) -> Self {
        let mut states = States::new(model, initial, classes);
        if model.unseen_states_are_alike() {
            states.unseen_are_alike = true;
            let is_observer = |class: &Alike<'_, M>| class.is_read && class.output.is_some();
            states.observers = (0..)
                .zip(classes)
                .filter(|(_, class)| is_observer(class))
                .map(|(number, _)| number)
                .collect();
        }
        states
    }

    /// Whether this stands for all states that nobody can see.
    pub fn is_unseen(&self, id: StateId) -> bool {
        self.unseen == Some(id)
    }

    /// The number of the initial state.
    pub const INITIAL: StateId = 0;

    pub fn state(&self, id: StateId) -> &M::State {
        &self.states[id as usize]
    }

    /// All states met so far.
    pub fn all(&self) -> &[M::State] {
        &self.states
    }

    pub fn bytes(&self) -> usize {
        self.states.len() * (size_of::<M::State>() + 32)
            + self.slots.len() * 8
            + self.table.len() * 4
            + self.sparse.len() * 24
    }

    /// The state after an operation of `class`, or [`FORBIDDEN`].
    #[inline]
    pub fn step(&mut self, from: StateId, class: Class) -> StateId {
        let cell = from as usize * self.classes.len() + class as usize;
        match self.table.get(cell) {
            Some(&UNTRIED) | None => self.step_slowly(from, class, cell),
            Some(&to) => to,
        }
    }

    /// See [`Model::is_on_the_way`].
    pub fn is_on_the_way(&self, state: StateId, read: Class) -> bool {
        let class = &self.classes[read as usize];
        let sees = |output| self.model.is_on_the_way(&self.states[state as usize], class.input, output);
        class.output.is_none_or(sees)
    }

    #[cold]
    fn step_slowly(&mut self, from: StateId, class: Class, cell: usize) -> StateId {
        if cell >= self.table.len()
            && let Some(to) = self.sparse.get(&(from, class))
        {
            return *to;
        }
        let Alike { input, output, is_read } = &self.classes[class as usize];
        let to = match self.model.step(&self.states[from as usize], input, *output) {
            Some(_) if *is_read => from,
            Some(state) if self.unseen_are_alike && !self.is_seen(&state) => {
                let unseen = self.unseen.unwrap_or_else(|| self.intern(state));
                self.unseen = Some(unseen);
                unseen
            }
            Some(state) => self.intern(state),
            None => FORBIDDEN,
        };
        match self.table.get_mut(cell) {
            Some(slot) => *slot = to,
            None => {
                self.sparse.insert((from, class), to);
            }
        }
        to
    }

    /// Whether some read can see this state, or what it becomes. Whoever saw the state before, which mostly became
    /// this one, is asked first.
    fn is_seen(&mut self, state: &M::State) -> bool {
        let (later, earlier) = (self.saw..self.observers.len(), 0..self.saw);
        let saw = later.chain(earlier).find(|number| {
            let Alike { input, output, .. } = &self.classes[self.observers[*number] as usize];
            output.is_some_and(|output| self.model.is_on_the_way(state, input, output))
        });
        self.saw = saw.unwrap_or(self.saw);
        saw.is_some()
    }

    fn intern(&mut self, state: M::State) -> StateId {
        let hash = hash_of(&state);
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        while self.slots[place] != FREE {
            let (known, id) = self.slots[place];
            if known == hash && self.states[id as usize] == state {
                return id;
            }
            place = (place + 1) & mask;
        }
        let id = self.states.len() as StateId;
        self.slots[place] = (hash, id);
        self.states.push(state);
        if self.states.len() * 2 > self.slots.len() {
            self.grow();
        }
        let cells = self.states.len() * self.classes.len();
        if cells <= CELLS_MAX {
            self.table.resize(cells, UNTRIED);
        }
        id
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![FREE; size]);
        for slot in old.into_iter().filter(|slot| *slot != FREE) {
            let mut place = slot.0 as usize & (size - 1);
            while self.slots[place] != FREE {
                place = (place + 1) & (size - 1);
            }
            self.slots[place] = slot;
        }
    }
}

fn hash_of(state: &impl Hash) -> u32 {
    let mut hasher = FastHasher::default();
    state.hash(&mut hasher);
    hasher.finish() as u32
}

/// A slot that is not taken.
const FREE: (u32, StateId) = (0, FORBIDDEN);

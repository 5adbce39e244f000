mod bounds;
mod cost;
mod filling;
mod flushes;
mod random;
mod reference;
mod world;

pub(crate) mod ans;
pub(crate) mod frequencies;

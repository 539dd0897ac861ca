//! Damping of second moments.

/// What is added to each column's diagonal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damping {
    relative: f64,
    absolute: f64,
    /// Share of a column's own diagonal.
    kappa: f64,
}

impl Damping {
    /// Most that a diagonal is raised by shrinkage, as a share of itself.
    const MOST: f64 = 10.0;

    /// Shares of the mean diagonal and of a column's own, and an absolute part.
    pub fn new(relative: f64, absolute: f64, shrinkage: f64) -> Self {
        let kappa = if shrinkage < 1.0 { shrinkage / (1.0 - shrinkage) } else { f64::INFINITY };
        let kappa = kappa.min(Self::MOST);
        Self { relative, absolute, kappa }
    }

    /// None at all.
    pub fn none() -> Self {
        Self { relative: 0.0, absolute: 0.0, kappa: 0.0 }
    }

    /// So many times as strong.
    pub fn times(self, multiple: f64) -> Self {
        let [relative, absolute, kappa] = [self.relative, self.absolute, self.kappa].map(|v| v * multiple);
        Self { relative, absolute, kappa }
    }

    /// For half the samples, whose correlations are chance twice as much.
    pub fn of_half(self) -> Self {
        Self { kappa: (2.0 * self.kappa).min(Self::MOST), ..self }
    }

    /// For the diagonal of a second moment.
    pub fn of(&self, diagonal: &[f64]) -> Vec<f32> {
        let mean = diagonal.iter().sum::<f64>() / diagonal.len() as f64;
        let delta = self.relative * mean + self.absolute;
        diagonal.iter().map(|d| (delta + self.kappa * d) as f32).collect()
    }
}

//! SLQ and its relatives: trained networks onto shared values, round by round.

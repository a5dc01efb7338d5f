// Medians, and ratios taken pair by pair: what disturbs a round disturbs both sides of it.

export const median = (values) => percentile(values, 0.5);

export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

export const spread = (values) => ({ median: median(values), min: Math.min(...values), max: Math.max(...values) });

/** `one` over `other` in each round. */
export function ratios(samples, one, other, pick = (sample) => sample.score) {
  return spread(samples[one].map((sample, round) => pick(sample) / pick(samples[other][round])));
}

/** CPU seconds per request, publish or MB. */
export const cost = (sample) => sample.cpu / sample.count;

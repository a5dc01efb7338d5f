// What the figures have to reach. Whether they do is computed from the run.
import { cost, ratios } from './stats.mjs';

const hot = ['packument-10k', 'packument-1m', 'abbreviated-gzip', 'manifest'];
const each = (names, ours, peer, least) => names.map((scenario) => ({ scenario, ours, peer, least }));

const targets = [
  ...each(hot, 'listener', 'nginx', 0.7),
  ...each(hot, 'proxy', 'listener', 0.8),
  ...each(['with-token'], 'callback', 'listen', 0.5),
  ...each(['blob-64m'], 'listener', 'nginx', 0.9),
  ...each(['push-put', 'push-patch'], 'listener', 'nodePut', 1.2),
  ...each(['publish-1', 'publish-16'], 'listener', 'nodePut', 0.8),
  ...each(hot, 'nodeHandler', 'nodeMemory', 0.55),
  ...each(hot, 'fromWeb', 'nodeMemory', 0.35),
];

/** Targets of the scenarios that were run, each with its ratio, and `thrift`: CPU that the peer takes for the same over ours. */
export function verdicts(scenarios) {
  return targets
    .filter(({ scenario }) => scenarios[scenario])
    .map((target) => {
      const { samples } = scenarios[target.scenario];
      const ratio = ratios(samples, target.ours, target.peer);
      return { ...target, ratio, thrift: ratios(samples, target.peer, target.ours, cost), met: ratio.median >= target.least };
    });
}

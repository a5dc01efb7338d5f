// `npm run fuzz -- [target…] [seconds]`: feeds the parsers what nobody would send, for ten minutes each unless told. Without a target, all.
// What the fuzzer has found interesting is kept in the cache and is where the next run begins; what breaks lands in fuzz/artifacts.
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from './clients.mjs';
import { cache, root } from './lib/paths.mjs';
import { run, say, script, StepError } from './lib/run.mjs';

const folder = join(root, 'fuzz');

/** Built apart: the instrumented crates would throw out those of every other build. */
const env = { ...process.env, CARGO_TARGET_DIR: join(cache, 'target-fuzzing') };

await script(async () => {
  const words = process.argv.slice(2);
  const seconds = Number(words.find((word) => /^\d+$/.test(word)) ?? 600);
  const known = (await readdir(join(folder, 'targets'))).map((file) => file.replace(/\.rs$/, '')).sort();
  const asked = words.filter((word) => !/^\d+$/.test(word));
  for (const name of asked) {
    if (!known.includes(name)) throw new StepError(`there is no fuzz target ${name}; there are ${known.join(', ')}`);
  }
  const { argv } = await client('cargo-fuzz');
  let broken = 0;
  for (const name of asked.length ? asked : known) broken += await fuzz(argv, name, seconds);
  return broken ? 1 : 0;
});

/** Runs one target; 1 if something broke. */
async function fuzz([cargoFuzz], name, seconds) {
  const corpus = join(cache, 'fuzz', name);
  await mkdir(corpus, { recursive: true });
  const dictionary = join(folder, 'dictionaries', `${name}.dict`);
  const options = [
    `-max_total_time=${seconds}`,
    '-rss_limit_mb=2048',
    '-timeout=10',
    '-max_len=20000',
    '-print_final_stats=1',
    ...(existsSync(dictionary) ? [`-dict=${dictionary}`] : []),
  ];
  say(`fuzzing ${name} for ${seconds} s`);
  // The core has no unsafe code for a sanitizer to watch, and without one no nightly compiler is needed.
  const build = ['run', '--sanitizer', 'none', '--fuzz-dir', folder, name];
  const { code, output } = await run(cargoFuzz, [...build, corpus, join(folder, 'inputs', name), '--', ...options], { env, allowFailure: true });
  const runs = output.match(/stat::number_of_executed_units:\s*(\d+)/)?.[1] ?? '0';
  console.log(`${name}: ${runs} runs, ${code === 0 ? 'nothing found' : 'BROKEN'}`);
  if (code !== 0) say(output.split('\n').slice(-60).join('\n').trimEnd());
  return code === 0 ? 0 : 1;
}

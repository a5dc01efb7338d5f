// Builds a tool that is a Rust crate.
import { join } from 'node:path';
import { run } from '../lib/run.mjs';

export async function installFromCargo(pin, folder) {
  // A target folder of its own (cargo's default here: a temporary one), or the tool's crates would crowd out ours.
  const { CARGO_TARGET_DIR: _ours, ...env } = process.env;
  await run('cargo', ['install', '--quiet', '--locked', '--root', folder, `${pin.package}@${pin.version}`], { env });
}

export const fileOfCargo = (pin, folder) => join(folder, pin.bin);

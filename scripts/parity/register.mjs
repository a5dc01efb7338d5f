// Preloaded into each test file's process: puts the resolving and loading hooks in place.
import { register } from 'node:module';

register('./hooks.mjs', import.meta.url, { data: JSON.parse(process.env.SMARTREGISTRY_PARITY) });

// A registry under node:http by nodeHandler(). Argument: a file with the configuration.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { SmartRegistry } from 'smartregistry-native';
import { listening } from './listening.mjs';

const registry = new SmartRegistry(JSON.parse(readFileSync(process.argv[2], 'utf8')));
await registry.init();
listening(http.createServer(registry.nodeHandler()), () => registry.destroy());

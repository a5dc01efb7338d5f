import { streamToBuffer, streamToJson, toReadableStream } from '@push.rocks/smartregistry';
import type { IResponse } from '@push.rocks/smartregistry';

declare const response: IResponse;

// Consume a stream into a Buffer
const buffer = await streamToBuffer(response.body);

// Consume a stream into parsed JSON
const data = await streamToJson(response.body);

// Create a ReadableStream from any data type
const stream = toReadableStream({ hello: 'world' });

export { buffer, data, stream };

import type { ServerResponse } from 'http';
import { Readable } from 'stream';
import type { IResponse } from '@push.rocks/smartregistry';

declare const response: IResponse, res: ServerResponse;

if (response.body) {
  Readable.fromWeb(response.body).pipe(res);
} else {
  res.end();
}

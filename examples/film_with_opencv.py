"""Film with a webcam in a loop of your own: H.264 to watch, at the times the frames were taken."""

import time

import cv2
import numpy as np

from mda_writers import CV2Writer

SECONDS = 3
WIDTH, HEIGHT = 640, 480


class NoCamera:
    """Stands in for a camera where there is none: a dot that goes round."""

    def read(self) -> tuple[bool, np.ndarray]:
        """Return what ``cv2.VideoCapture.read`` returns: a frame in BGR."""
        time.sleep(0.03)
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        angle = 2 * time.monotonic()
        where = (int(320 + 150 * np.cos(angle)), int(240 + 150 * np.sin(angle)))
        return True, cv2.circle(frame, where, 20, (40, 200, 250), -1)


camera = cv2.VideoCapture(0)
if camera.isOpened():
    camera.set(cv2.CAP_PROP_FRAME_WIDTH, WIDTH)
    camera.set(cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT)
else:
    camera = NoCamera()

_, first = camera.read()
height, width = first.shape[:2]

# Should this program die, film.mp4 plays up to the last frame.
writer = CV2Writer("film.mp4", timing="real")  # frames are BGR, as OpenCV gives them
writer.begin(width, height, is_color=True, camera="webcam")
begun = time.monotonic()
while time.monotonic() - begun < SECONDS:
    ok, frame = camera.read()
    if ok:
        writer.add_frame(frame, timestamp_s=time.monotonic() - begun)
report = writer.finish(extra_metadata={"who": "me", "what": "a first film"})

print(f"{report.frames_written} frames in {SECONDS} s, complete: {report.complete}")

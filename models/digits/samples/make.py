"""Makes the sample pictures of this folder: handwriting of scikit-learn's digits, printed digits, and digits
drawn as strokes, each on another ground and in another size. pip install pillow scikit-learn ; python make.py"""
import json, os, random
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = load_digits()
EXPECTED = []


def save(picture, file, digit):
    picture.save(os.path.join(HERE, file), **({"quality": 85} if file.endswith(".jpg") else {"optimize": True}))
    kind = "image/jpeg" if file.endswith(".jpg") else "image/png"
    EXPECTED.append({"file": file, "content_type": kind, "digit": digit})


def handwriting(index, size):
    """A digit of the data as a smooth mask of ink, and its label."""
    pixels = bytes(int(v * 255 / 16) for v in DATA.data[index])
    mask = Image.frombytes("L", (8, 8), pixels).resize((size, size), Image.BICUBIC)
    return mask, int(DATA.target[index])


def paper(size, light, dark, grain):
    """A sheet lit from one side, with grain."""
    random.seed(7)
    shade = Image.linear_gradient("L").rotate(90).resize(size).point(lambda v: dark + (light - dark) * v // 255)
    noise = Image.frombytes("L", size, bytes(random.randrange(grain) for _ in range(size[0] * size[1])))
    return ImageChops.subtract(shade, noise).convert("RGB")


def strokes(size, width, *lines):
    """Lines drawn with a round pen, as a mask of ink."""
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for line in lines:
        draw.line(line, fill=255, width=width, joint="curve")
        for x, y in line:
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(1.5))


def printed(digit, size, height):
    """A digit of Pillow's own font, as a mask of ink."""
    mask = Image.new("L", size, 0)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(mask).text((size[0] / 2, size[1] / 2), str(digit), fill=255, font=font, anchor="mm")
    return mask


# 1. The data's own pixels, as JSON.
index = 64
body = {"pixels": [int(v) for v in DATA.data[index]]}
with open(os.path.join(HERE, "pixels.json"), "w") as file:
    file.write(json.dumps(body) + "\n")
EXPECTED.append({"file": "pixels.json", "content_type": "application/json", "digit": int(DATA.target[index])})

# 2. White handwriting on black, nothing but the frame, as the data has it.
mask, digit = handwriting(2, 128)
save(mask, "white-on-black.png", digit)

# 3. A photo: blue handwriting low on a sheet of grainy paper.
mask, digit = handwriting(5, 170)
photo = paper((640, 480), 235, 190, 14)
photo.paste((30, 45, 110), (360, 230), mask.point(lambda v: min(255, max(0, (v - 60) * 2))))
save(photo.filter(ImageFilter.GaussianBlur(0.8)), "photo.jpg", digit)

# 4. A small printed digit on a wide white page.
page = Image.new("L", (300, 90), 255)
page.paste(0, (0, 0), printed(3, page.size, 48))
save(page, "printed.png", 3)

# 5. Red strokes of a pen on nothing at all: transparent.
mask = strokes((220, 300), 26, [(30, 40), (190, 36), (140, 130), (95, 260)])
drawing = Image.new("RGBA", mask.size, (200, 30, 30, 0))
drawing.putalpha(mask)
save(drawing, "transparent.png", 7)

# 6. Chalk strokes on a board, large.
mask = strokes((1000, 800), 44, [(520, 130), (440, 300), (400, 470), (430, 620), (520, 670), (610, 620), (620, 520), (540, 460), (430, 500)])
board = paper((1000, 800), 70, 45, 10)
board.paste((230, 230, 220), (0, 0), mask)
save(board, "chalk.jpg", 6)

# 7. As small as the network's own frame.
mask, digit = handwriting(42, 8)
save(Image.frombytes("L", (8, 8), bytes(int(v * 255 / 16) for v in DATA.data[42])), "tiny.png", digit)

with open(os.path.join(HERE, "expected.json"), "w") as file:
    file.write("[\n" + ",\n".join("  " + json.dumps(case) for case in EXPECTED) + "\n]\n")
